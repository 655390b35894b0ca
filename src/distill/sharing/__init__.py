"""Models given to others through the Hugging Face Hub: a repository with the model, its settings, a card, a picture."""
