"""crossing"""
