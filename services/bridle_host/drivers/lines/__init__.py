"""Drivers of agents that speak in lines of JSON on their standard input and output."""
