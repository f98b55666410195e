"""Where everything is kept: files and S3 alike.

objects     bytes at an address: read, list, create once
s3          how S3 is spoken to, and asked again
artifacts   immutable folders with a manifest, addressed by all that they were made from
attempts    uploads to S3, each under a name of its own until a manifest names it
cache       local copies of what lies in S3
journal     numbered objects: an order without a clock
scratch     private folders for work in progress
digests     SHA-256 over values and files
sources     which sources a result follows from
"""
