"""Cohorts: from a GEO accession, or a user's own table, to AnnData, samples x sites."""
