"""What one study alone needs: linear networks; numbers that authors released."""
