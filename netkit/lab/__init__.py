"""Labs: several hosts on one machine, each a network namespace with a netkitd of its own.

    lab.yml --reading--> Lab --building--> namespaces, links, daemons, containers
                          |                        |
                          checks --checking--> probes in the sources' namespaces --> a report

What is made is noted in a journal before it is made, so that all of it can be found and removed
after a kill at any instant.
"""
