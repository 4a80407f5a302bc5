"""`make bench`: how fast coaplet serves, beside a bare echo loop, libcoap, aiocoap, and its own other drivers.

load.c asks, subjects.py are the servers that are asked, probes.py runs what else is measured, coaps among it, report.py
makes ratios of it. Nothing leaves the loopback address, and no process outlives the run, not even a run that is killed.
"""
