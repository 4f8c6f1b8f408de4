"""The steps of the loop as a person takes them: first champion, training, evaluation, promotion."""
