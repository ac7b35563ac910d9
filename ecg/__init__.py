"""One ECG: `Recording`, the formats of the vendors, quality, duplicates, beats and signs."""
