"""Who is there: cluster membership by SWIM with Lifeguard.

A leaf: it imports nothing of ours and knows no word of queues. `swim.Swim` decides and never waits;
`driver.Membership` gives it a clock, a UDP socket and a way to exchange state over TCP. What a member
carries beyond its address is opaque here (`Member.meta`). Import what you need by its full path.

    Das, Gupta, Motivala: SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
        Protocol. DSN 2002. ("SWIM §" in comments)
    Dadgar, Phillips, Currey: Lifeguard: Local Health Awareness for More Accurate Failure Detection.
        2017, arXiv:1707.00788. ("Lifeguard §" in comments)
"""
