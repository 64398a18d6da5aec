"""Segments and the histories behind them: leaves fed from what is stored, builds, answers as of any moment.

Nothing in here applies a fact; of the engine's other modules it knows ``engine.context`` alone.
"""
