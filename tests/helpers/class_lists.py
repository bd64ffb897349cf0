"""The same list of classes in both of its formats."""

YAML = """
classes:
  - {name: ground, id: 0, color: [0, 0, 0]}
  - {name: road, id: 3, color: [128, 64, 128]}
  - {name: wall, id: 7, color: [70, 70, 70]}
ignored: [255, [255, 255, 255]]
"""
CSV = "name,id,r,g,b\nground,0,0,0,0\nroad,3,128,64,128\nwall,7,70,70,70\n,255,255,255,255\n"
