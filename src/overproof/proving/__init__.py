"""The proving ground: simulated attack and honest traffic that measures the defences."""
