"""One screen per area. A screen is given a ``Picture`` and shows it; it fetches nothing itself."""
