"""What the DAG files share: assets, defaults, and how a run gets its inputs. Wiring only."""
