"""Pages for people: the same services as the API, HTML instead of JSON."""

from webui.app import mount

__all__ = ["mount"]
