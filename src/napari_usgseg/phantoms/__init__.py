"""Ultrasound phantoms: anatomy, physics, scene."""
