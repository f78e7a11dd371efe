"""Raw samples from files, and answers to them: images, sound, videos, point clouds, scenes, masks, boxes."""
