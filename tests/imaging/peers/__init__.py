"""Neighbours that give each other chunks: cores, and both HTTP ends over loopback."""
