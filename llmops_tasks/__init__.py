"""An LLM's working life as plain functions: keyword-only, JSON in, JSON out, no Airflow in sight.

data        ingest, validate, anonymize, versions, synthetic
prompts     templates
training    base_model, finetune
evaluation  quality, gate
release     package, ledger, registry
serving     batch
monitoring  drift, retrain
"""
