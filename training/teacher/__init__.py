"""The teacher: learns from renders how a face mesh moves with each label, then labels
photographs.
"""
