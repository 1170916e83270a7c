"""Tables from pictures, video and streams: `affectgan score`, `affectgan live`. Needs the extra
`local`.

sources -> chunks -> workers (processes here, or actors on Ray) -> journal -> postprocessing ->
table
"""
