"""Publishing: an artifact becomes an image of a cloud.

    properties    the names under which an image's record says what it is
    describe      artifact → what Glance is told of it
    gate          what may not be published, and why
    payload       which file goes up, converted where a cloud's store wants that
    job           all of that, for every cloud the same
    transfer      the bytes into Glance, proven on the way
    imports       the ways by which Glance takes over or fetches the bytes itself
    existing      what a project has of a build already
    changes       what differs in a record, and the patch that mends it
    holding       one upload of a build at a time
    upload        one cloud: what is there, what is made, what is changed
    clouds        several clouds, each with its own result

All of it may be cut off anywhere and run again.
"""
