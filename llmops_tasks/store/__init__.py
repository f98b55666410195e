"""Where everything is kept: files and S3 alike.

objects     bytes at an address: read, list, publish once
s3          how S3 is spoken to, and asked again
artifacts   immutable folders with a manifest, addressed by all that they were made from
digests     SHA-256 over values, files and sources
"""
