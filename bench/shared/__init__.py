"""Code that several measurements share: it measures nothing itself."""
