"""Publishing: an artifact becomes an image of a cloud.

properties    the names under which an image's record says what it is
describe      artifact → what Glance is told of it
gate          what may not be published, and why
payload       which file goes up, converted where a cloud's store wants that
transfer      the bytes into Glance, proven on the way
imports       the ways by which Glance fetches or takes over the bytes itself
upload        one cloud: what is there, what is made, what is changed
clouds        several clouds, each with its own result
"""
