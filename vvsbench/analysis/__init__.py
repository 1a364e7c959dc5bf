"""From records to what a reader sees: a frame, its fronts, tables, figures and a page. No model, no torch."""
