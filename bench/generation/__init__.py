"""How new sounds compare with sounds that the model has not heard."""
