"""What is remembered of collections: who was asked, what each brought, and what became of it."""
