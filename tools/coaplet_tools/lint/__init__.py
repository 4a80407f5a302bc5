"""`make lint`: what can be told of the code without running it. Every check prints file:line and what is wrong."""
