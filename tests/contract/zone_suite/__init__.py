"""What every zone does, whatever it is made of.

A zone's tests give the fixture ``zone``, a :class:`~zone_suite.zone_under_test.ZoneUnderTest`,
and inherit the classes named ``...Contract`` here. Where zones differ, ``ZoneUnderTest`` has an
attribute that says so; no test is weakened for one of them.
"""
