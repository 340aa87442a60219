"""Why a packet does or does not arrive: the kernel's own decisions, repeated on what is live.

    live.py (the only I/O) --> Facts --\
                                        explain() --> Explanation --> words.py, or JSON
              Question ----------------/
"""
