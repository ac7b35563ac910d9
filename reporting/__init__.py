"""What a person looks at: ECG paper, figures, ECG signs, explanations, the self-contained HTML pages."""
