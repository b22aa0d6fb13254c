"""Small bilingual language models for merging: the languages, the data, the training and the scores."""
