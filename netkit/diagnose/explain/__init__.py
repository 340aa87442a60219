"""Explain whether a packet arrives, by repeating the kernel's decisions on live rules.

    live.py (the only I/O) --> Facts --\
                                        explain() --> Explanation --> words.py, or JSON
              Question ----------------/
"""
