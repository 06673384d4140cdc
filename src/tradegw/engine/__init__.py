"""Decides what happens next: takes orders, stores them before sending, applies what venues report."""
