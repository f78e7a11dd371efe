"""Raw samples from files, and answers to them: pictures, sound, films, point clouds, scenes, masks, boxes."""
