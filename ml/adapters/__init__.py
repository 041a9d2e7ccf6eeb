"""Each library that reaches outside, behind a port; imported when an adapter is made or used."""
