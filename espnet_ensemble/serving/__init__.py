"""What a trained model is for: transcribe recordings, whatever they are like."""
