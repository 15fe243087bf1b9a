"""Use cases as plain functions over a Session.

Every function is `f(session, …, small explicit collaborators) -> View`; it flushes and never commits.
The caller
owns the unit of work: `with services.read() as session:` or `with services.write() as session:`
(`pxeboot.adapters.container.Services`). `write()` commits when the block ends, rolls back when it
raises, and only
after the commit tells the journal and the live pages. So no service may be called with a session made by
hand.
Expected failures are `pxeboot.errors.AppError`s.

All of it is synchronous: call it from `def` endpoints (FastAPI runs them in threads) or by
`asyncio.to_thread`.
"""
