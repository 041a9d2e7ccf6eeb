"""The demo on real flights, a tour of commands. Only here does `ml` know that they are flights."""
