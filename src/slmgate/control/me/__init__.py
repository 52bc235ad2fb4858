"""What key holders are told about themselves: figures, limits, the month's costs, and a new secret.

`service.py` takes the questions that workers hand on, `answers.py` answers them. Neither is the admin API: who asks here is no
operator, and sees what is its own.
"""
