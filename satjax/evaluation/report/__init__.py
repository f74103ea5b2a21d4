"""A report as a page that needs nothing but itself: tables, drawings and templates."""
