"""Every kind of table: a module each, found by its being here."""
