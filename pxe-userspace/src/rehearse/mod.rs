//! Simulated machines. They share no protocol code with the responder, so that they can disagree with it.
