"""Figures, tables and one self-contained page per run, drawn from plain arrays.

Nothing here knows torch, ray or mlflow. `assemble` turns what a run stored into a `ReportData`,
`page` writes it as HTML; `figures` and `tables` serve on their own as well.
"""
