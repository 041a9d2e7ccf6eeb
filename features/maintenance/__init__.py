"""Operations on the stores: audit, compaction, rebuild. Imports retrieval and what is below it."""
