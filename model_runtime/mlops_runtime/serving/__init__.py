"""The model server: one loaded model behind three HTTP protocols. Imported by ``mlops-runtime serve`` only."""
