"""A cloud's services, as far as publishing needs them.

    connection    clouds.yaml or OS_* → Cloud
    service       one request: retries, refusals, what they mean for the exit code
    images        Glance's images
    datastores    Trove's datastores, their versions and configuration parameters

Requests go through openstacksdk's adapters: it finds the endpoints and keeps the token. Its
own classes for images and databases hide what is needed here (states, conflicts, Trove's
administration is not there at all), so the paths are ours.
"""
