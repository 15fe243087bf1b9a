"""SQLModel tables, the engine and the migrations."""
