"""JSON Schemas: read, brought into one spelling, and checked against."""
