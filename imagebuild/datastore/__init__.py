"""Trove's datastore versions and the images behind them: what they are, what they become.

resolution    which image Trove takes for a version
skew          whether an image's agent fits the control plane
wanted        what `create` is asked for; the plan that leads there
managers      the managers that a release of Trove knows
creation      carries such a plan out
overview      what `list` shows
rules         configuration parameters: the rules of a release
trovemanage   a program of the control plane, through the operator's prefix
loading       carries rules into a version
world         versions and images as a value; the single steps that change it
turning       how a version gets another image, step by step
candidates    which image is meant, and whether it may be given to a version
rotation      `promote` and `rollback`
usage         what uses images and versions
retirement    `retire`
"""
