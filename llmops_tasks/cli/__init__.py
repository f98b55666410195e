"""`llmops`, the command line: every verb as a command, for people and for scripts.

app         the commands, made when they are asked for, and the program
options     from a verb's signature to options, from what is typed to its arguments
docstrings  from a verb's docstring to its help
output      results, errors, log lines and progress
exit_codes  which error ends with which code
"""
