"""A read-only TFTP server: RFC 1350 with the options of RFC 2347, 2348, 2349 and 7440.

`packet` is the codec, `transfer` the conversation, `files` what may be read; `server` adds sockets and
timers.
"""
