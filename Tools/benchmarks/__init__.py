"""What Tools/bench is made of: the contenders, the measures, the rounds, and the report."""
