"""What is answered when somebody asks: people's logs, journeys, objects, imports, memberships, inquiries.

``reader`` is the door, from any thread; what it hands out are the plain values of ``view``. Nothing in here writes.
"""
